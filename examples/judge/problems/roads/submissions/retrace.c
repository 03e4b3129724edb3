/* Bellman-Ford, then back along the best roads; where there is no way it follows a null pointer. */
#include <stdio.h>
#include <stdlib.h>

struct town {
    long distance;
    struct town *from;
    int length;
};
struct road {
    int from, to, length;
};

int main(void) {
    int n, m;
    if (scanf("%d %d", &n, &m) != 2) return 1;
    struct town *towns = calloc((size_t)n + 1, sizeof *towns);
    struct road *roads = calloc((size_t)m + 1, sizeof *roads);
    if (!towns || !roads) return 1;
    for (int i = 0; i < m; i++)
        if (scanf("%d %d %d", &roads[i].from, &roads[i].to, &roads[i].length) != 3) return 1;
    for (int changed = 1; changed;) {
        changed = 0;
        for (int i = 0; i < m; i++) {
            struct town *a = &towns[roads[i].from], *b = &towns[roads[i].to];
            if ((a->from || roads[i].from == 1) && roads[i].to != 1 &&
                (!b->from || a->distance + roads[i].length < b->distance)) {
                *b = (struct town){a->distance + roads[i].length, a, roads[i].length};
                changed = 1;
            }
        }
    }
    long sum = 0;
    for (struct town *at = &towns[n]; at != &towns[1]; at = at->from) sum += at->length;
    printf("%ld\n", sum);
    return 0;
}
