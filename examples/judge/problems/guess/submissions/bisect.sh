# Halves what is left.
low=1 high=1000000
while [ "$answer" != right ]; do
    guess=$(((low + high) / 2))
    echo "$guess"
    read -r answer || exit 1
    case $answer in
    higher) low=$((guess + 1)) ;;
    lower) high=$((guess - 1)) ;;
    esac
done
