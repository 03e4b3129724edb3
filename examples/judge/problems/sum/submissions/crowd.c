/* Sixteen children with 32 MiB each, none of which is too much by itself. It reports the loss of one by an exit code. */
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

int main(void) {
    int status;
    for (int i = 0; i < 16; i++) {
        if (fork() != 0) continue;
        volatile char *at = malloc(32 << 20);
        for (size_t j = 0; j < 32 << 20; j += 4096) at[j] = 1;
        pause();
    }
    return wait(&status) > 0 && status == 0 ? 0 : 1;
}
