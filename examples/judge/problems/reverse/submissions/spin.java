// Four threads that burn.
public class Main {
    static volatile long turns;

    public static void main(String[] arguments) {
        for (int i = 0; i < 4; i++) new Thread(() -> { while (true) turns++; }).start();
    }
}
