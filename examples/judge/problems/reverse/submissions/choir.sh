# Children that flood, while the main process waits and ignores the broken pipes.
trap '' PIPE
yes &
yes >&2 &
wait
