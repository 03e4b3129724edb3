# Sleeps while a child burns.
while :; do :; done &
sleep 3600
