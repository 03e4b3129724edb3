/* Takes at most 100 towns, and says so by its exit code. */
#include <stdio.h>
#include <stdlib.h>

#define MOST 100

static long distance[MOST + 1][MOST + 1];

int main(void) {
    int n, m;
    if (scanf("%d %d", &n, &m) != 2) return 1;
    if (n > MOST) {
        fprintf(stderr, "%d towns are too many for me\n", n);
        return 2;
    }
    for (int i = 1; i <= n; i++)
        for (int j = 1; j <= n; j++) distance[i][j] = i == j ? 0 : -1;
    for (int i = 0; i < m; i++) {
        int from, to, length;
        if (scanf("%d %d %d", &from, &to, &length) != 3) return 1;
        if (distance[from][to] == -1 || length < distance[from][to]) distance[from][to] = length;
    }
    for (int k = 1; k <= n; k++)
        for (int i = 1; i <= n; i++)
            for (int j = 1; j <= n; j++) {
                if (distance[i][k] == -1 || distance[k][j] == -1) continue;
                long through = distance[i][k] + distance[k][j];
                if (distance[i][j] == -1 || through < distance[i][j]) distance[i][j] = through;
            }
    printf("%ld\n", distance[1][n]);
    return 0;
}
