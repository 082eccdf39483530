/* What graft.hpp stands on: errors and results, spans, handles, callables inside C. Programs include graft.hpp.
 */
#ifndef GRAFT_RESULT_HPP
#define GRAFT_RESULT_HPP

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <exception>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <variant>
#if __has_include(<version>)
#include <version>
#endif
#ifdef __cpp_lib_span
#include <span>
#endif

#include "graft.h"

#if !defined(GRAFT_NO_EXCEPTIONS) && !defined(__cpp_exceptions) && !defined(_CPPUNWIND)
#define GRAFT_NO_EXCEPTIONS
#endif

namespace graft {
#ifdef GRAFT_NO_EXCEPTIONS
// Names of their own for the linker: the functions of both modes differ in what they return.
inline namespace results {
#endif

/// The number of an entry of the vocabulary.
using Token = std::uint32_t;

#ifdef __cpp_lib_span
using std::span;
#else
/// Elements that belong to somebody else: as much of std::span as is needed here.
template <class T> class span {
public:
    constexpr span() noexcept = default;
    constexpr span(T *data, std::size_t size) noexcept : data_(data), size_(size) {}
    template <std::size_t N> constexpr span(T (&array)[N]) noexcept : data_(array), size_(N) {}
    template <class C, class = std::enable_if_t<std::is_convertible_v<decltype(std::declval<C &>().data()), T *>>>
    constexpr span(C &&container) noexcept : data_(container.data()), size_(container.size()) {}
    constexpr T *data() const noexcept { return data_; }
    constexpr std::size_t size() const noexcept { return size_; }
    constexpr bool empty() const noexcept { return size_ == 0; }
    constexpr T *begin() const noexcept { return data_; }
    constexpr T *end() const noexcept { return data_ + size_; }
    constexpr T &operator[](std::size_t i) const noexcept { return data_[i]; }

private:
    T *data_ = nullptr;
    std::size_t size_ = 0;
};
#endif

/// What sort of failure it is. Later versions of the library may have more.
enum class Status : graft_status {
    ok = GRAFT_OK,
    io = GRAFT_ERROR_IO,
    invalid = GRAFT_ERROR_INVALID,
    unsupported = GRAFT_ERROR_UNSUPPORTED,
    mismatch = GRAFT_ERROR_MISMATCH,
    limit = GRAFT_ERROR_LIMIT,
    usage = GRAFT_ERROR_USAGE,
    internal = GRAFT_ERROR_INTERNAL,
    cancelled = GRAFT_ERROR_CANCELLED,
    busy = GRAFT_ERROR_BUSY,
    handle = GRAFT_ERROR_HANDLE,
    poisoned = GRAFT_ERROR_POISONED,
};

/// What went wrong, and where. The texts live as long as this or a copy.
class Error : public std::exception {
public:
    /// Takes over `error`, which may be NULL.
    Error(graft_status status, graft_error *error) : status_(status), error_(error, graft_error_free) {}

    Status status() const noexcept { return static_cast<Status>(status_); }
    /// Everything in one line: file, item, what is wrong, what was expected and what was found.
    std::string_view message() const noexcept { return what(); }
    const char *what() const noexcept override {
        const char *message = error_ ? graft_error_message(error_.get()) : nullptr;
        return message ? message : graft_status_name(status_);
    }
    /// The file at fault, or nothing.
    std::string_view file() const noexcept { return text(graft_error_file); }
    /// The tensor, key, field or argument at fault, or nothing.
    std::string_view item() const noexcept { return text(graft_error_item); }
    /// What would have been right, or nothing.
    std::string_view expected() const noexcept { return text(graft_error_expected); }
    /// What was there instead, or nothing.
    std::string_view found() const noexcept { return text(graft_error_found); }

private:
    std::string_view text(const char *(*part)(const graft_error *)) const noexcept {
        const char *text = error_ ? part(error_.get()) : nullptr;
        return text ? text : std::string_view();
    }

    graft_status status_;
    std::shared_ptr<graft_error> error_;
};

#ifdef GRAFT_NO_EXCEPTIONS
#define GRAFT_DETAIL_FAIL(error) return error
/// A T, or the Error that came instead. Taking the one that is not there ends the program.
template <class T> class [[nodiscard]] Result {
public:
    Result(T value) : either_(std::in_place_index<0>, std::move(value)) {}
    Result(Error error) : either_(std::in_place_index<1>, std::move(error)) {}

    bool ok() const noexcept { return either_.index() == 0; }
    explicit operator bool() const noexcept { return ok(); }
    T &value() & { return *there(std::get_if<0>(&either_)); }
    const T &value() const & { return *there(std::get_if<0>(&either_)); }
    T &&value() && { return std::move(*there(std::get_if<0>(&either_))); }
    T &operator*() & { return value(); }
    const T &operator*() const & { return value(); }
    T &&operator*() && { return std::move(*this).value(); }
    T *operator->() { return &value(); }
    const T *operator->() const { return &value(); }
    const Error &error() const { return *there(std::get_if<1>(&either_)); }

private:
    template <class P> static P there(P pointer) {
        if (!pointer) std::abort();
        return pointer;
    }

    std::variant<T, Error> either_;
};
/// Done, or the Error that came instead.
template <> class [[nodiscard]] Result<void> : public Result<std::monostate> {
public:
    Result() : Result<std::monostate>(std::monostate()) {}
    Result(Error error) : Result<std::monostate>(std::move(error)) {}
};
#else
#define GRAFT_DETAIL_FAIL(error) throw error
template <class T> using Result = T;
#endif

namespace detail {

/// Where C puts an error.
struct ErrorOut {
    graft_error *error = nullptr;
    ErrorOut() = default;
    ErrorOut(const ErrorOut &) = delete;
    ErrorOut &operator=(const ErrorOut &) = delete;
    ~ErrorOut() { graft_error_free(error); }
};

/// Has `call(&error)` call C.
template <class Call> Result<void> run(Call &&call) {
    ErrorOut out;
    const graft_status status = call(&out.error);
    if (status != GRAFT_OK) GRAFT_DETAIL_FAIL(Error(status, std::exchange(out.error, nullptr)));
    return Result<void>();
}

/// As `run`; then `value()` is the result.
template <class Call, class Value> auto get(Call &&call, Value &&value) -> Result<decltype(value())> {
    ErrorOut out;
    const graft_status status = call(&out.error);
    if (status != GRAFT_OK) GRAFT_DETAIL_FAIL(Error(status, std::exchange(out.error, nullptr)));
    return value();
}

/// The object behind the handle that `call(&handle, &error)` makes.
template <class Object, class Call> Result<Object> make(Call &&call) {
    struct Made {
        typename Object::Handle *handle = nullptr;
        Made() = default;
        Made(const Made &) = delete;
        Made &operator=(const Made &) = delete;
        ~Made() { Object::free(handle); }
    } made;
    return get([&](graft_error **e) { return call(&made.handle, e); }, [&] { return Object(std::exchange(made.handle, nullptr)); });
}

/// The struct of facts that `call(&facts, &error)` writes, as `To`.
template <class To, class Facts, class Call> Result<To> facts(Call &&call) {
    Facts facts{};
    facts.struct_size = sizeof facts;
    return get([&](graft_error **e) { return call(&facts, e); }, [&] { return To(facts); });
}

/// What `call(&start, &size, &error)` gives out for good, as a `To` of its own.
template <class To, class Call> Result<To> take(Call &&call) {
    struct Given {
        typename To::value_type *start = nullptr;
        std::size_t size = 0;
        Given() = default;
        Given(const Given &) = delete;
        Given &operator=(const Given &) = delete;
        ~Given() { graft_free(start); }
    } given;
    return get([&](graft_error **e) { return call(&given.start, &given.size, e); },
               [&] { return given.size ? To(given.start, given.start + given.size) : To(); });
}

/// An object that copies share. It has no move: there is always an object.
template <class T, void (*Free)(T *)> class Shared {
public:
    using Handle = T;
    /// Takes over a handle of graft.h.
    explicit Shared(T *handle) : handle_(handle, Free) {}
    Shared(const Shared &) = default;
    Shared &operator=(const Shared &) = default;
    /// The handle for functions of graft.h; it stays this object's.
    T *get() const noexcept { return handle_.get(); }
    static void free(T *handle) noexcept { Free(handle); }

private:
    std::shared_ptr<T> handle_;
};

/// An object with one owner.
template <class T, void (*Free)(T *)> class Owned {
public:
    using Handle = T;
    /// Takes over a handle of graft.h.
    explicit Owned(T *handle) noexcept : handle_(handle) {}
    /// The handle for functions of graft.h; it stays this object's. NULL after it was moved from.
    T *get() const noexcept { return handle_.get(); }
    static void free(T *handle) noexcept { Free(handle); }

private:
    struct Delete {
        void operator()(T *handle) const noexcept { Free(handle); }
    };
    std::unique_ptr<T, Delete> handle_;
};

/// Keeps what a callable threw inside C until C has returned.
class Caught {
public:
    /// Calls `f`; the answer is C's: 0 goes on.
    template <class F, class... Args> std::int32_t call(F &f, Args... args) noexcept {
#ifdef GRAFT_NO_EXCEPTIONS
        return ask(f, args...);
#else
        try {
            return ask(f, args...);
        } catch (...) {
            thrown_ = std::current_exception();
            return 1;
        }
#endif
    }

    /// Passes a status on, unless something was thrown.
    graft_status after(graft_status status) const {
#ifndef GRAFT_NO_EXCEPTIONS
        if (thrown_) std::rethrow_exception(thrown_);
#endif
        return status;
    }

private:
    template <class F, class... Args> static std::int32_t ask(F &f, Args... args) {
        if constexpr (std::is_void_v<std::invoke_result_t<F &, Args...>>) return f(args...), 0;
        else return f(args...) ? 0 : 1;
    }

#ifndef GRAFT_NO_EXCEPTIONS
    std::exception_ptr thrown_;
#endif
};

/// A progress callable for C.
struct Progress : Caught {
    const std::function<bool(float)> &tell;
    template <class Options> Progress(const std::function<bool(float)> &f, Options &options) : tell(f) {
        if (!tell) return;
        options.progress_user_data = this;
        options.progress = [](float share, void *user) noexcept -> std::int32_t {
            auto &self = *static_cast<Progress *>(user);
            return self.call(self.tell, share);
        };
    }
    Progress(const Progress &) = delete;
    Progress &operator=(const Progress &) = delete;
};

inline std::string string(const char *text) { return text ? text : std::string(); }
/// An empty text is none.
inline const char *none_if_empty(const std::string &text) noexcept { return text.empty() ? nullptr : text.data(); }
inline std::optional<Token> token(std::int64_t number) {
    return number < 0 ? std::nullopt : std::optional(static_cast<Token>(number));
}

} // namespace detail

#ifdef GRAFT_NO_EXCEPTIONS
} // namespace results
#endif
} // namespace graft

#undef GRAFT_DETAIL_FAIL
#endif // GRAFT_RESULT_HPP
