// Keeps a list of arrays.
import java.util.ArrayList;
import java.util.List;

public class Main {
    public static void main(String[] arguments) {
        List<long[]> all = new ArrayList<>();
        while (true) {
            long[] numbers = new long[1 << 16];
            java.util.Arrays.fill(numbers, all.size());
            all.add(numbers);
        }
    }
}
