/* One guess, and it closes its output, but listens on. */
#include <stdio.h>

int main(void) {
    char answer[8];
    puts("500000");
    fclose(stdout);
    while (scanf("%7s", answer) == 1) {}
    return 0;
}
