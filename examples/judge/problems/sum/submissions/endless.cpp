// A template that needs a larger one of itself.
template <int n>
struct Next {
    static constexpr int value = Next<n + 1>::value;
};

int main() { return Next<0>::value; }
