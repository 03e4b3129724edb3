# Takes one letter after another from the front.
read -r word
while [ -n "$word" ]; do
    rest=${word#?}
    turned=${word%"$rest"}$turned
    word=$rest
done
echo "$turned"
