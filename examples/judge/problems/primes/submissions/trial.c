/* Trial division by every smaller number: right, and hopeless for a large n. */
#include <stdio.h>

int main(void) {
    long n, count = 0;
    if (scanf("%ld", &n) != 1) return 1;
    for (long i = 2; i <= n; i++) {
        int prime = 1;
        for (long j = 2; j < i; j++)
            if (i % j == 0) prime = 0;
        count += prime;
    }
    printf("%ld\n", count);
    return 0;
}
