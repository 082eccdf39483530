// Checks that count: a failed one is printed, and the program goes on.
#ifndef GRAFT_TESTS_CHECK_HPP
#define GRAFT_TESTS_CHECK_HPP

#include <atomic>
#include <cstdio>

inline std::atomic<int> passed{0}, failed{0};

inline bool check(bool holds, const char *what, const char *file, int line) {
    ++(holds ? passed : failed);
    if (!holds) std::printf("FAILED %s:%d: %s\n", file, line, what);
    return holds;
}

#define CHECK(...) check(static_cast<bool>(__VA_ARGS__), #__VA_ARGS__, __FILE__, __LINE__)

#endif
