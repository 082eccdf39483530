import CGraft
import Dispatch

/// One conversation with a model: its tokens, its cache, its active adapters.
///
/// Every call is carried out in the order of calls, one at a time, on a queue of the session's own, so that what blocks never holds up
/// other tasks. Sessions of one model share everything but this and run beside each other.
public final class Session: Sendable {
    /// The model.
    public let model: Model
    let handle: Handle
    let queue = DispatchQueue(label: "graft.session")

    init(_ handle: Handle, model: Model) {
        self.handle = handle
        self.model = model
    }

    /// Carries out `work` when all that was asked for before is done.
    func run<Value: Sendable>(_ work: @escaping @Sendable (OpaquePointer) throws -> Value) async throws -> Value {
        try await queue.result { [handle] in try work(handle.pointer) }
    }

    /// Makes these adapters the active ones from the next token on; none is the model alone. What earlier tokens left in the cache is kept:
    /// ``reset()`` clears it.
    ///
    /// - Throws: `GraftError` for an adapter of another model, adapters that cannot be on together, and one that must be on before the
    ///   first token when there are tokens. The active adapters are then those from before.
    public func setAdapters(_ adapters: [WeightedAdapter]) async throws {
        try await run { session in
            try withAdapters(adapters) { handles, weights in
                try check { graft_session_set_adapters(session, handles, weights, handles.count, $0) }
            }
        }
    }

    /// Makes this adapter the only active one from the next token on, or none.
    ///
    /// - Throws: as ``setAdapters(_:)``.
    public func setAdapter(_ adapter: Adapter?) async throws {
        try await setAdapters(adapter.map { [WeightedAdapter($0)] } ?? [])
    }

    /// Appends tokens and gives the scores (logits) of every token that may follow, one for each entry of the vocabulary.
    ///
    /// - Throws: `GraftError` for no tokens, tokens outside the vocabulary, and more than the context holds.
    public func evaluate(_ tokens: [UInt32]) async throws -> [Float] {
        try await run { session in
            try check { graft_session_eval(session, tokens, tokens.count, $0) }
            var (logits, count): (UnsafePointer<Float>?, Int) = (nil, 0)
            try check { graft_session_logits(session, &logits, &count, $0) }
            return Array(UnsafeBufferPointer(start: logits, count: count))
        }
    }

    /// The tokens so far.
    public var tokens: [UInt32] {
        get async throws {
            try await run { session in
                var (tokens, count): (UnsafePointer<UInt32>?, Int) = (nil, 0)
                try check { graft_session_tokens(session, &tokens, &count, $0) }
                return Array(UnsafeBufferPointer(start: tokens, count: count))
            }
        }
    }

    /// Forgets all tokens. Adapters stay active.
    ///
    /// - Throws: `GraftError` after a defect in Graft only.
    public func reset() async throws {
        try await run { session in try check { graft_session_reset(session, $0) } }
    }

    /// Forgets all but the first `count` tokens.
    ///
    /// - Throws: `GraftError` where there are fewer.
    public func truncate(to count: Int) async throws {
        try await run { session in try check { graft_session_truncate(session, UInt64(clamping: count), $0) } }
    }

    /// Makes room in a full context: keeps the first `count` tokens and the later half of the others.
    ///
    /// - Throws: `GraftError` where that leaves no room.
    public func slide(keeping count: Int) async throws {
        try await run { session in try check { graft_session_slide(session, UInt64(clamping: count), $0) } }
    }
}

/// What a session is made with.
public struct SessionOptions: Hashable, Sendable {
    /// How exactly to compute.
    public enum Precision: Sendable {
        /// Activations as bytes: several times faster.
        case fast
        /// Activations as 32-bit floats.
        case exact
    }

    /// Tokens that it can hold; `nil` for as many as the model was made for. The cache takes memory as it fills.
    public var context: Int?
    /// How exactly to compute.
    public var precision = Precision.fast
    /// Prompt tokens that run through the layers together; more need more memory.
    public var chunk: Int?

    /// What suits most conversations.
    public init() {}

    func withC<Result>(_ body: (UnsafePointer<graft_session_options>) throws -> Result) rethrows -> Result {
        var options = graft_session_options()
        graft_session_options_init(&options, MemoryLayout<graft_session_options>.stride)
        if let context { options.context = UInt64(clamping: context) }
        options.precision = precision == .fast ? GRAFT_PRECISION_FAST : GRAFT_PRECISION_EXACT
        if let chunk { options.chunk = UInt32(clamping: chunk) }
        return try body(&options)
    }
}
