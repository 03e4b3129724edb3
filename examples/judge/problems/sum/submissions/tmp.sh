# Fills /tmp.
cat /dev/zero >/tmp/zero
echo "all of it: $?"
