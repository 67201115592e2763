#include "train/loss.h"

#include <math.h>

/* The row's probabilities; returns log(sum exp(logits)). */
static double softmax_row(const float *logits, int classes, float *probabilities) {
    float largest = logits[0];
    double sum = 0;
    for (int c = 1; c < classes; c++)
        if (logits[c] > largest) largest = logits[c];
    for (int c = 0; c < classes; c++) sum += exp((double)(logits[c] - largest));
    double log_sum = largest + log(sum);
    for (int c = 0; c < classes; c++) probabilities[c] = (float)exp(logits[c] - log_sum);
    return log_sum;
}

void loss_softmax(const float *logits, int n, int classes, float *probabilities) {
    for (int i = 0; i < n; i++) softmax_row(logits + i * classes, classes, probabilities + i * classes);
}

static int is_correct(const float *logits, int label, int classes) {
    int best = 0;
    for (int c = 0; c < classes; c++) {
        if (isnan(logits[c])) return 0;
        if (logits[c] > logits[best]) best = c;
    }
    return best == label;
}

int loss_correct(const float *logits, const int *labels, int n, int classes) {
    int correct = 0;
    for (int i = 0; i < n; i++) correct += is_correct(logits + i * classes, labels[i], classes);
    return correct;
}

double loss_labels(const float *logits, const int *labels, int n, int classes, float smoothing, float weight,
                   float *dlogits, int *correct) {
    double total = 0;
    float rest = smoothing / (float)classes, scale = weight / (float)n;
    *correct = loss_correct(logits, labels, n, classes);
    for (int i = 0; i < n; i++) {
        const float *row = logits + i * classes;
        float *d = dlogits + i * classes;
        double log_sum = softmax_row(row, classes, d);
        for (int c = 0; c < classes; c++) {
            float target = rest + (c == labels[i] ? 1 - smoothing : 0);
            if (target > 0) total += target * (log_sum - row[c]);
            d[c] = (d[c] - target) * scale;
        }
    }
    return total / n;
}

double loss_targets(const float *logits, const float *target, int n, int classes, float weight, float *dlogits) {
    double total = 0;
    float scale = weight / (float)n;
    for (int i = 0; i < n; i++) {
        const float *row = logits + i * classes, *t = target + i * classes;
        float *d = dlogits + i * classes;
        double log_sum = softmax_row(row, classes, d);
        for (int c = 0; c < classes; c++) {
            total += t[c] * (log_sum - row[c]);
            d[c] = (d[c] - t[c]) * scale;
        }
    }
    return total / n;
}
