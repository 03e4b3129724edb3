/* One guess; then a grandchild in a session of its own holds the line, and says nothing. */
#include <stdio.h>
#include <unistd.h>

int main(void) {
    char answer[8];
    puts("500000");
    fflush(stdout);
    if (scanf("%7s", answer) != 1) return 1;
    if (fork() == 0) {
        setsid();
        if (fork() == 0) sleep(3600);
    }
    return 0;
}
