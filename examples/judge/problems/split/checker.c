/* Whether two primes add up to n: code 0 for yes, 1 for no. What it reads may be anything. */
#include <ctype.h>
#include <stdio.h>

static int wrong(const char *why) {
    fprintf(stderr, "%s\n", why);
    return 1;
}

static int is_prime(long n) {
    if (n < 2) return 0;
    for (long i = 2; i * i <= n; i++)
        if (n % i == 0) return 0;
    return 1;
}

/* The next word, if it is a number of at most `most`; otherwise -1. */
static long number(FILE *file, long most) {
    long value = 0;
    int digits = 0, c;
    do c = getc(file);
    while (isspace(c));
    for (; isdigit(c); c = getc(file), digits++)
        if ((value = value * 10 + (c - '0')) > most) return -1;
    return digits > 0 && (c == EOF || isspace(c)) ? value : -1;
}

int main(int count, char **paths) {
    FILE *input = count == 3 ? fopen(paths[1], "r") : NULL;
    FILE *output = input ? fopen(paths[2], "r") : NULL;
    long n;
    char more;
    if (!output || fscanf(input, "%ld", &n) != 1) return 2;
    long a = number(output, n), b = number(output, n);
    if (a < 0 || b < 0) return wrong("not two numbers up to n");
    if (fscanf(output, " %c", &more) == 1) return wrong("more than two numbers");
    if (!is_prime(a) || !is_prime(b)) return wrong("not primes");
    return a + b == n ? 0 : wrong("not the right sum");
}
