import CGraft

/// What went wrong, and where.
public struct GraftError: Error, Hashable, Sendable {
    /// What sort of failure it is, for code that has to decide what to do next.
    public struct Status: RawRepresentable, Hashable, Sendable {
        /// The number in the C interface (`GRAFT_ERROR_…`).
        public let rawValue: Int32

        /// The status with this number in the C interface.
        public init(rawValue: Int32) { self.rawValue = rawValue }

        /// The system refused: a missing file, no permission, a full disk.
        public static let io = Status(rawValue: GRAFT_ERROR_IO)
        /// The input breaks its own format: truncated, contradictory, out of range.
        public static let invalid = Status(rawValue: GRAFT_ERROR_INVALID)
        /// The input is well formed but asks for something that Graft does not do.
        public static let unsupported = Status(rawValue: GRAFT_ERROR_UNSUPPORTED)
        /// Two well-formed inputs do not belong together, such as an adapter and another model.
        public static let mismatch = Status(rawValue: GRAFT_ERROR_MISMATCH)
        /// A documented limit was reached: the context is full, a size is over its cap.
        public static let limit = Status(rawValue: GRAFT_ERROR_LIMIT)
        /// The interface was used wrongly: an empty prompt, an option out of range.
        public static let usage = Status(rawValue: GRAFT_ERROR_USAGE)
        /// A defect in Graft itself.
        public static let `internal` = Status(rawValue: GRAFT_ERROR_INTERNAL)
        /// A defect ended an earlier call of this session in the middle: it can only be let go of.
        public static let poisoned = Status(rawValue: GRAFT_ERROR_POISONED)
    }

    /// What sort of failure it is.
    public let status: Status
    /// All of it in one line: the place, what is wrong, what was expected and what was found.
    public let message: String
    /// The file at fault, where there is one.
    public let file: String?
    /// The tensor, metadata key, field or argument at fault, where there is one.
    public let item: String?

    init(status: graft_status, error: OpaquePointer?) {
        self.status = Status(rawValue: status)
        message = string(graft_error_message(error)) ?? string(graft_status_name(status)) ?? "error \(status)"
        file = string(graft_error_file(error))
        item = string(graft_error_item(error))
    }

    init(_ status: Status, _ message: String) {
        self.status = status
        self.message = message
        file = nil
        item = nil
    }
}

extension GraftError: CustomStringConvertible {
    /// The message.
    public var description: String { message }
}
