# Adds.
sum=0
read -r n
while read -r x; do sum=$((sum + x)); done
echo $sum
