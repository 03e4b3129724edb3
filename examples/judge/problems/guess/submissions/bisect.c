/* Halves what is left. */
#include <stdio.h>

int main(void) {
    long low = 1, high = 1000000;
    char answer[8] = "";
    while (low <= high) {
        long guess = (low + high) / 2;
        printf("%ld\n", guess);
        fflush(stdout);
        if (scanf("%7s", answer) != 1) return 1;
        if (answer[0] == 'r') return 0;
        if (answer[0] == 'h') low = guess + 1;
        else high = guess - 1;
    }
    return 1;
}
