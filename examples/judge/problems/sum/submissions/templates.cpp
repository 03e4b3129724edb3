// Templates with twice as many arguments each: 2 to the power of 40 at the last.
template <int depth, class... Types>
struct Twice : Twice<depth - 1, Types..., Types...> {};
template <class... Types>
struct Twice<0, Types...> {};

int main() { return sizeof(Twice<40, int>) == 0; }
