/* A program of 64 MiB, from one line. */
int numbers[16 << 20] = {1};

int main(void) {
    return numbers[0] - 1;
}
