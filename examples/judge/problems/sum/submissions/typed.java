// Does not compile.
public class Main {
    public static void main(String[] arguments) {
        int sum = "0";
        System.out.println(sum);
    }
}
