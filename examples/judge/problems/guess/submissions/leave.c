/* One guess, and off. */
#include <stdio.h>

int main(void) {
    char answer[8];
    puts("500000");
    fflush(stdout);
    return scanf("%7s", answer) == 1 ? 0 : 1;
}
