import CGraft

extension Model {
    /// Memory that a model file and a session will take, known before it is loaded: only the file's directory is read.
    ///
    /// - Throws: `GraftError` for a file that is no model, and options that do not fit it.
    public static func memoryPlan(path: String, options: SessionOptions = SessionOptions()) throws -> MemoryPlan {
        try withText(path) { path in
            try options.withC { options in
                var plan = graft_memory_plan()
                plan.struct_size = MemoryLayout<graft_memory_plan>.stride
                try check { graft_plan_memory(path.data, path.len, options, &plan, $0) }
                return MemoryPlan(plan)
            }
        }
    }
}

/// Bytes that a model and a session take. Adapters and the tokenizer come on top.
public struct MemoryPlan: Hashable, Sendable {
    /// The tensors in the file. Mapped, they are shared by processes, and the system may drop and read them again.
    public let weights: UInt64
    /// Norms and biases, of which the model has a copy.
    public let vectors: UInt64
    /// The cache of the session, when its context is full.
    public let cache: UInt64
    /// What the session needs for its largest chunk of a prompt.
    public let activations: UInt64
    /// What each thread of the model needs.
    public let perThread: UInt64

    init(_ plan: graft_memory_plan) {
        weights = plan.weights
        vectors = plan.vectors
        cache = plan.kv
        activations = plan.activations
        perThread = plan.per_thread
    }
}
