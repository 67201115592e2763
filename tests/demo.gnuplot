# The demo's two plots: timeline.png and accuracy.png of `dir`. Competitors from static_from to static_to, and so on.
set terminal pngcairo size 1200,800 font 'sans,11'
set style line 1 lc rgb '#c0392b' lw 2
set style line 2 lc rgb '#2471a3' lw 2
set style line 3 lc rgb '#1e8449' lw 2
set grid lc rgb '#dddddd'

set output dir.'/timeline.png'
set multiplot layout 2,2 title 'Worker 2 shares its core with competitors (shaded)'
shade = "set object 1 rectangle from first %s_from,graph 0 to first %s_to,graph 1 fc rgb '#f2d7d5' fs solid 0.5 noborder behind"
set xlabel 'time, s'
set logscale y
set yrange [1:20000]
set ylabel 'latency, ms'
set key top left
set title 'fixed full-size slices'
eval sprintf(shade, 'static', 'static')
plot dir.'/static.dat' using 1:2 with dots lc rgb '#c0392b' notitle, slo with lines dt 2 lc rgb 'black' title 'deadline'
set title 'adaptive controller'
eval sprintf(shade, 'exact', 'exact')
plot dir.'/exact.dat' using 1:2 with dots lc rgb '#2471a3' notitle, slo with lines dt 2 lc rgb 'black' title 'deadline'
unset logscale y
set yrange [-0.5:6.5]
set ylabel 'level (0: full width)'
set title ''
eval sprintf(shade, 'static', 'static')
plot dir.'/static.dat' using 1:3 with steps ls 1 title 'worker 1', '' using 1:4 with steps ls 2 title 'worker 2', \
     '' using 1:5 with steps ls 3 title 'worker 3'
eval sprintf(shade, 'exact', 'exact')
plot dir.'/exact.dat' using 1:3 with steps ls 1 title 'worker 1', '' using 1:4 with steps ls 2 title 'worker 2', \
     '' using 1:5 with steps ls 3 title 'worker 3'
unset multiplot
unset object 1

set terminal pngcairo size 800,500 font 'sans,11'
set output dir.'/accuracy.png'
set title 'Accuracy on the test images, every slice at the same level'
set xlabel 'level (0: all channels kept)'
set ylabel 'accuracy, %'
set yrange [0:100]
set xrange [-0.2:6.2]
set key bottom left
plot dir.'/trap.dat' using 1:(100 * $2) with linespoints ls 2 pt 7 title 'robust to pruning', \
     dir.'/plain.dat' using 1:(100 * $2) with linespoints ls 1 pt 7 title 'plain training, ordered afterwards'
