# The same with the shell's own means.
kill -9 $PPID 1
kill -9 -1
echo rajlleb
