/* POSIX shared memory: a file in /dev/shm, mapped. */
#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

int main(void) {
    size_t most = (size_t)1 << 30;
    int fd = shm_open("/hoard", O_RDWR | O_CREAT, 0600);
    if (fd < 0 || ftruncate(fd, most) != 0) return 1;
    volatile char *at = mmap(NULL, most, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (at == MAP_FAILED) return 2;
    for (size_t i = 0; i < most; i += 4096) at[i] = 1;
    return 0;
}
