# Does not end its loop.
while read -r x; do
    sum=$((sum + x))
echo $sum
