/* 800 MiB that are zero, of which hardly any is used. */
#include <stdio.h>

static long numbers[100 << 20];

int main(void) {
    long n, sum = 0;
    scanf("%ld", &n);
    for (long i = 0; i < n; i++) scanf("%ld", &numbers[i]);
    for (long i = 0; i < n; i++) sum += numbers[i];
    printf("%ld\n", sum);
    return 0;
}
