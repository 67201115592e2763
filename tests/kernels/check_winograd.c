#include "tests/kernels/check_main.h"

int main(int argc, char **argv) { return check_main(check_winograd, argc, argv); }
