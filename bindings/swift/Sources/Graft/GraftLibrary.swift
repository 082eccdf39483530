import CGraft
import Foundation

/// The library that is linked.
public enum GraftLibrary {
    /// Its version, such as `0.1.0`.
    public static var version: String { string(graft_version()) ?? "" }

    /// The instruction set level whose kernels it chose for this processor, such as `neon-dotprod`.
    public static var instructionSet: String { string(graft_isa()) ?? "" }

    /// How important a message is; a higher one includes all lower ones.
    public enum LogLevel: Int32, Sendable {
        /// Nothing is logged.
        case off = 0
        /// What failed.
        case error
        /// What may surprise.
        case warning
        /// What is going on.
        case info
        /// Details for who develops Graft.
        case debug
    }

    /// Sends the library's messages up to `level` to `receive`, which any thread may call; `nil` ends it. There is one receiver in a
    /// process.
    public static func setLog(_ level: LogLevel, _ receive: (@Sendable (LogLevel, String) -> Void)?) {
        receiver.set(receive)
        graft_log_set(forward, nil, level.rawValue)
    }

    private static let forward: graft_log_callback = { level, message, length, _ in
        receiver.get()?(LogLevel(rawValue: level) ?? .debug, string(message, length))
    }

    /// Kept here and not behind the callback's pointer: a call may be under way while another receiver is set.
    private static let receiver = Locked<(@Sendable (LogLevel, String) -> Void)?>(nil)
}

/// A value behind a lock.
final class Locked<Value: Sendable>: @unchecked Sendable {
    private let lock = NSLock()
    private var value: Value

    init(_ value: Value) { self.value = value }

    func get() -> Value { lock.withLock { value } }
    func set(_ new: Value) { lock.withLock { value = new } }
}
