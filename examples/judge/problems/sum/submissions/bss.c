/* 800 MiB that are zero, each page touched. */
#include <stdio.h>

static char numbers[800 << 20];

int main(void) {
    for (size_t i = 0; i < sizeof numbers; i += 4096) ((volatile char *)numbers)[i] = 1;
    puts("7000000043");
    return 0;
}
