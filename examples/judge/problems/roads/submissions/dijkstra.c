/* Dijkstra's algorithm with a binary heap. */
#include <stdio.h>
#include <stdlib.h>

struct road {
    int to, length, next;
};
struct entry {
    long distance;
    int town;
};

static struct road *roads;
static struct entry *heap;
static int *first, size;
static long *best;

static void push(long distance, int town) {
    int i = size++;
    for (; i > 0 && heap[(i - 1) / 2].distance > distance; i = (i - 1) / 2) heap[i] = heap[(i - 1) / 2];
    heap[i] = (struct entry){distance, town};
}

static struct entry pop(void) {
    struct entry top = heap[0], last = heap[--size];
    int i = 0;
    for (int child; (child = 2 * i + 1) < size; i = child) {
        if (child + 1 < size && heap[child + 1].distance < heap[child].distance) child++;
        if (heap[child].distance >= last.distance) break;
        heap[i] = heap[child];
    }
    heap[i] = last;
    return top;
}

int main(void) {
    int n, m;
    if (scanf("%d %d", &n, &m) != 2) return 1;
    roads = malloc(sizeof *roads * (size_t)(m + 1));
    heap = malloc(sizeof *heap * (size_t)(m + 1));
    first = calloc((size_t)n + 1, sizeof *first);
    best = malloc(sizeof *best * (size_t)(n + 1));
    if (!roads || !heap || !first || !best) return 1;
    for (int i = 1; i <= n; i++) best[i] = -1;
    for (int i = 1; i <= m; i++) {
        int from, to, length;
        if (scanf("%d %d %d", &from, &to, &length) != 3) return 1;
        roads[i] = (struct road){to, length, first[from]};
        first[from] = i;
    }
    push(0, 1);
    while (size > 0) {
        struct entry at = pop();
        if (best[at.town] != -1) continue;
        best[at.town] = at.distance;
        for (int i = first[at.town]; i; i = roads[i].next)
            if (best[roads[i].to] == -1) push(at.distance + roads[i].length, roads[i].to);
    }
    printf("%ld\n", best[n]);
    return 0;
}
