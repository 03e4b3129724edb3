/* Thinks about the answer for ever. */
#include <stdio.h>

int main(void) {
    char answer[8];
    puts("500000");
    fflush(stdout);
    if (scanf("%7s", answer) != 1) return 1;
    for (volatile long thought = 0; answer[0] != 'r'; thought++) {}
    return 0;
}
