/* Nearly all of the memory, and a child that executes a program with more arguments than there is room for: it is killed
   inside execve. */
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

static char word[127 << 10];

int main(void) {
    char *words[16] = {"true"};
    size_t most = ((size_t)254 << 20) + (512 << 10);
    volatile char *at = malloc(most);
    for (size_t i = 0; i < most; i += 4096) at[i] = 1;
    memset(word, 'x', sizeof word - 1);
    for (int i = 1; i < 15; i++) words[i] = word;
    if (fork() == 0) {
        /* Of the two, the child is to go. */
        int fd = open("/proc/self/oom_score_adj", O_WRONLY);
        if (write(fd, "1000", 4) != 4) _exit(3);
        execv("/bin/true", words);
        _exit(4);
    }
    int status;
    return wait(&status) > 0 && status == 0 ? 0 : 1;
}
