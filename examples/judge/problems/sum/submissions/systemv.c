/* System V shared memory, in segments that no process has mapped any more. The filter lets nobody have any. */
#include <string.h>
#include <sys/shm.h>

int main(void) {
    for (int i = 0; i < 64; i++) {
        int id = shmget(IPC_PRIVATE, 16 << 20, IPC_CREAT | 0600);
        char *at = id < 0 ? (char *)-1 : shmat(id, NULL, 0);
        if (at == (char *)-1) return 1;
        memset(at, 1, 16 << 20);
        shmdt(at);
    }
    return 0;
}
