import CGraft

/// The library that is linked.
public enum GraftLibrary {
    /// Its version, such as `0.1.0`.
    public static var version: String { string(graft_version()) ?? "" }

    /// How important a message is; a higher one includes all lower ones.
    public enum LogLevel: Int32, Sendable {
        /// Nothing is logged.
        case off = 0
        /// A defect in Graft.
        case error
        /// Something was used wrongly that a call could not say.
        case warning
        /// A model or an adapter was opened or made.
        case info
    }

    /// Sends the library's messages up to `level` to `receive`, which any thread may call; `nil` ends it. There is one receiver in a
    /// process.
    public static func setLog(_ level: LogLevel, _ receive: (@Sendable (LogLevel, String) -> Void)?) {
        receiver.set(receive)
        graft_log_set(forward, nil, level.rawValue)
    }

    private static let forward: graft_log_callback = { level, message, length, _ in
        receiver.get()?(LogLevel(rawValue: level) ?? .info, string(message, length))
    }

    /// Kept here and not behind the callback's pointer: a call may be under way while another receiver is set.
    private static let receiver = Locked<(@Sendable (LogLevel, String) -> Void)?>(nil)
}
