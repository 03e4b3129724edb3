/* Has the compiler read zeroes without end. */
#include "/dev/zero"

int main(void) {
    return 0;
}
