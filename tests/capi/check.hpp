// Checks that count: a failed one is printed, and the program goes on.
#ifndef GRAFT_TESTS_CHECK_HPP
#define GRAFT_TESTS_CHECK_HPP

#include <atomic>
#include <cstdio>
#include <fstream>
#include <iterator>
#include <optional>
#include <stdexcept>
#include <string>
#include <vector>

#include <graft.hpp>

inline std::atomic<int> passed{0}, failed{0};

inline bool check(bool holds, const char *what, const char *file, int line) {
    ++(holds ? passed : failed);
    if (!holds) std::printf("FAILED %s:%d: %s\n", file, line, what);
    return holds;
}

#define CHECK(...) check(static_cast<bool>(__VA_ARGS__), #__VA_ARGS__, __FILE__, __LINE__)

#ifndef GRAFT_NO_EXCEPTIONS
// The status of the error that `f` throws, and the error.
template <class F> graft::Status thrown(F &&f, std::optional<graft::Error> *error = nullptr) {
    try {
        f();
    } catch (const graft::Error &e) {
        if (error) *error = e;
        return CHECK(!e.message().empty()) ? e.status() : graft::Status::ok;
    }
    return graft::Status::ok;
}

struct Special : std::runtime_error {
    using std::runtime_error::runtime_error;
};
// Whether `f` throws a Special.
template <class F> bool throws_special(F &&f) {
    try {
        f();
    } catch (const Special &e) {
        return e.what() == std::string("special");
    }
    return false;
}

inline std::vector<std::uint8_t> bytes_of(const std::string &path) {
    std::ifstream file(path, std::ios::binary);
    return {std::istreambuf_iterator<char>(file), {}};
}
#endif

#endif
