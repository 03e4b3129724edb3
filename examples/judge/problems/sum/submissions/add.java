// Adds.
import java.util.Scanner;

public class Main {
    public static void main(String[] arguments) {
        Scanner numbers = new Scanner(System.in);
        long sum = 0;
        for (int n = numbers.nextInt(); n > 0; n--) sum += numbers.nextLong();
        System.out.println(sum);
    }
}
