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

    /// Memory that a trainer with these options will take, known before it begins: one of a new adapter, or of the adapter in a folder. The
    /// adapter is made for that and goes again.
    ///
    /// - Throws: `GraftError` as ``makeTrainer(options:)`` and ``openTrainer(path:options:)`` do, of status `limit` where it does not fit into
    ///   the options' ``TrainOptions/memory``.
    public func trainingPlan(folder: String? = nil, options: TrainOptions = TrainOptions()) async throws -> TrainPlan {
        try await workQueue.result { [handle] in
            let cancel = try CancelFlag()
            return try withText(folder ?? "") { path in
                try options.withC(cancel) { options in
                    var plan = graft_train_plan()
                    plan.struct_size = MemoryLayout<graft_train_plan>.stride
                    let at = folder == nil ? nil : path.data
                    try check { graft_plan_training(handle.pointer, at, path.len, options, &plan, $0) }
                    return TrainPlan(plan)
                }
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

/// Bytes that a training takes at its most, by part. The tokenizer, the rows and the app itself come on top.
public struct TrainPlan: Hashable, Sendable {
    /// The tensors in the file. Mapped, they are there without the training too.
    public let weights: UInt64
    /// The adapter's numbers, and the adapter as it runs.
    public let adapter: UInt64
    /// The gradients of these numbers.
    public let gradients: UInt64
    /// What the optimizer keeps of each number.
    public let optimizer: UInt64
    /// What is kept of the longest row in each layer for the way back.
    public let activations: UInt64
    /// Buffers of the layer that is under way, and of the head.
    public let workspace: UInt64
    /// All of it together.
    public let total: UInt64
    /// Attention is kept for the way back; `false`: it runs again there, for the sake of the options' ``TrainOptions/memory``.
    public let keepsAttention: Bool

    init(_ plan: graft_train_plan) {
        weights = plan.weights
        adapter = plan.adapter
        gradients = plan.gradients
        optimizer = plan.optimizer
        activations = plan.activations
        workspace = plan.workspace
        total = plan.total
        keepsAttention = plan.keeps_attention != 0
    }
}
