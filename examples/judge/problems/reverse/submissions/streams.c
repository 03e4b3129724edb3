/* Floods both streams in turn. */
#include <stdio.h>

int main(void) {
    for (;;) {
        puts("rajlleb");
        fputs("rajlleb\n", stderr);
    }
}
