/* Remembers the smallest factor and the cofactor of every number: 16 bytes each, 80 MB for the large n. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct factors {
    long smallest, other;
};

int main(void) {
    long n, count = 0;
    if (scanf("%ld", &n) != 1) return 1;
    size_t bytes = ((size_t)n + 1) * sizeof(struct factors);
    struct factors *of = malloc(bytes);
    if (!of) return 1;
    memset(of, 0xff, bytes);
    for (long i = 2; i <= n; i++) {
        if (of[i].smallest != -1) continue;
        count++;
        for (long j = i; j <= n; j += i)
            if (of[j].smallest == -1) of[j] = (struct factors){i, j / i};
    }
    printf("%ld\n", count);
    return 0;
}
