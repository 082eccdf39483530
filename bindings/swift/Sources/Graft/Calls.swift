// How Swift calls the C interface: handles that free themselves, errors that are thrown, strings in and out.
import CGraft

/// Where the C interface writes a pointer.
typealias Out<Pointer> = UnsafeMutablePointer<Pointer?>

/// Owns one object of the C interface and frees it when its last user is gone.
///
/// Unchecked, because a pointer is never `Sendable`: the C interface allows every handle on every thread, and answers with `busy`
/// where two threads use one session at the same time.
final class Handle: @unchecked Sendable {
    let pointer: OpaquePointer
    private let free: (OpaquePointer?) -> Void

    /// The object that `create(out, error)` makes, to be freed with `free`.
    init(
        freedBy free: @escaping (OpaquePointer?) -> Void,
        _ create: (Out<OpaquePointer>, Out<OpaquePointer>) -> graft_status
    ) throws {
        var made: OpaquePointer?
        try check { create(&made, $0) }
        guard let made else { throw GraftError(.internal, "no object was made") }
        self.pointer = made
        self.free = free
    }

    deinit { free(pointer) }
}

/// Calls the C interface; what it reports as an error is thrown: `CancellationError` for work that was cancelled, else `GraftError`.
func check(_ call: (Out<OpaquePointer>) -> graft_status) throws {
    var error: OpaquePointer?
    let status = call(&error)
    defer { graft_error_free(error) }
    if status == GRAFT_ERROR_CANCELLED { throw CancellationError() }
    if status != GRAFT_OK { throw GraftError(status: status, error: error) }
}

/// Lends strings as the C interface takes them, for the time of `body`.
func withTexts<Result>(_ strings: [String], _ body: (UnsafeBufferPointer<graft_text>) throws -> Result) rethrows -> Result {
    var bytes: [CChar] = []
    bytes.reserveCapacity(strings.reduce(1) { $0 + $1.utf8.count })
    for string in strings { bytes.append(contentsOf: string.utf8.lazy.map(CChar.init(bitPattern:))) }
    bytes.append(0) // so that there is an address to point at, even where all strings are empty
    return try bytes.withUnsafeBufferPointer { all in
        var at = all.baseAddress!
        let texts = strings.map { string in
            defer { at += string.utf8.count }
            return graft_text(data: at, len: string.utf8.count)
        }
        return try texts.withUnsafeBufferPointer(body)
    }
}

/// Lends one string.
func withText<Result>(_ string: String, _ body: (graft_text) throws -> Result) rethrows -> Result {
    try withTexts([string]) { try body($0[0]) }
}

/// A borrowed NUL-terminated string, copied.
func string(_ borrowed: UnsafePointer<CChar>?) -> String? {
    borrowed.map { String(cString: $0) }
}

/// Borrowed text of a known length, copied.
func string(_ borrowed: UnsafePointer<CChar>?, _ length: Int) -> String {
    String(decoding: UnsafeRawBufferPointer(start: borrowed, count: length), as: UTF8.self)
}

/// The text that `call(out, length, error)` gives out, copied and freed.
func takeText(
    _ call: (Out<UnsafeMutablePointer<CChar>>, UnsafeMutablePointer<Int>, Out<OpaquePointer>) -> graft_status
) throws -> String {
    String(decoding: try takeArray(call).lazy.map(UInt8.init(bitPattern:)), as: UTF8.self)
}

/// The array that `call(out, length, error)` gives out, copied and freed.
func takeArray<Element>(
    _ call: (Out<UnsafeMutablePointer<Element>>, UnsafeMutablePointer<Int>, Out<OpaquePointer>) -> graft_status
) throws -> [Element] {
    var out: UnsafeMutablePointer<Element>?
    var length = 0
    try check { call(&out, &length, $0) }
    defer { graft_free(out) }
    return Array(UnsafeBufferPointer(start: out, count: length))
}
