/* The mean of no numbers. */
#include <stdio.h>

int main(void) {
    volatile int sum = 7, count = 0;
    printf("%d\n", sum / count);
    return 0;
}
