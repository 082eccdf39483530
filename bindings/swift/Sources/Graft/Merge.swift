import CGraft

extension Model {
    /// This model with adapters merged into its weights: a model of its own, which shares all tensors that did not change. Takes seconds to
    /// minutes; cancelling the task ends it.
    ///
    /// - Throws: `GraftError` for adapters that are not in the weights, such as prompts; `CancellationError`.
    public func merged(_ adapters: [WeightedAdapter], options: MergeOptions = MergeOptions()) async throws -> Model {
        try await options.run { [handle] options in
            try Model(withAdapters(adapters) { adapters, weights in
                try Handle(freedBy: graft_model_free) { merged, error in
                    graft_merge(handle.pointer, adapters, weights, adapters.count, options, merged, error)
                }
            })
        }
    }

    /// As ``merged(_:options:)``, to a GGUF file that other programs load too. It appears when it is complete.
    ///
    /// - Throws: as ``merged(_:options:)``, and where the file cannot be written.
    public func merge(_ adapters: [WeightedAdapter], to path: String, options: MergeOptions = MergeOptions()) async throws {
        try await options.run { [handle] options in
            try withAdapters(adapters) { adapters, weights in
                try withText(path) { path in
                    try check {
                        graft_merge_to(handle.pointer, adapters, weights, adapters.count, options, path.data, path.len, $0)
                    }
                }
            }
        }
    }
}

/// How to pack what is merged.
public struct MergeOptions: Sendable {
    /// In which block format.
    public enum Format: Hashable, Sendable {
        /// Each tensor in its own.
        case keep
        /// All in this one, such as `Q8_0`.
        case named(String)
        /// Each in its own, or in larger ones where they are needed to keep the merged model's predictions within this mean divergence
        /// (in nats) of those of the adapters put on live.
        case within(Double)
    }

    /// In which block format.
    public var format = Format.keep
    /// A text like those that the model will read, on which packing is tuned; `nil` for short texts of the library's own.
    public var text: String?
    /// Pack without regard to what the model reads.
    public var isPlain = false
    /// Is told the share that is done, from 0 to 1.
    public var progress: (@Sendable (Float) -> Void)?

    /// Each tensor in its own format.
    public init() {}

    /// Runs work with these options, where a cancelled task ends it.
    func run<Value: Sendable>(_ work: @escaping @Sendable (UnsafePointer<graft_merge_options>) throws -> Value) async throws -> Value {
        try await Monitor.run(progress) { monitor in
            var name = ""
            if case .named(let format) = format { name = format }
            return try withTexts([name, text ?? ""]) { texts in
                var options = graft_merge_options()
                graft_merge_options_init(&options, MemoryLayout<graft_merge_options>.stride)
                switch format {
                case .keep: break
                case .named: (options.format, options.format_len) = (texts[0].data, texts[0].len)
                case .within(let divergence): options.within = divergence
                }
                if text != nil { (options.text, options.text_len) = (texts[1].data, texts[1].len) }
                options.plain = isPlain ? 1 : 0
                options.progress = Monitor.report
                return try monitor.withPointer {
                    options.progress_user_data = $0
                    return try work(&options)
                }
            }
        }
    }
}

/// Makes one adapter of several.
public enum Combination {
    /// Combines the adapters in PEFT folders, each with its weight, as PEFT's `add_weighted_adapter`, and writes the result to a folder
    /// that PEFT loads too. Cancelling the task ends it.
    ///
    /// - Throws: `GraftError` for adapters that cannot be combined so and options out of range; `CancellationError`.
    public static func write(
        _ folders: [(path: String, weight: Float)], to path: String, options: CombineOptions = CombineOptions()
    ) async throws {
        let (paths, weights) = (folders.map(\.path), folders.map(\.weight))
        try await options.run { options in
            try withTexts(paths) { folders in
                try withText(path) { path in
                    try check {
                        graft_combine(folders.baseAddress, weights, folders.count, options, path.data, path.len, $0)
                    }
                }
            }
        }
    }
}

/// How to make one adapter of several.
public struct CombineOptions: Sendable {
    /// PEFT's `combination_type`: `linear`, `svd`, `cat`, `ties`, `ties_svd`, `dare_linear`, `dare_ties`, `dare_linear_svd`,
    /// `dare_ties_svd`, `magnitude_prune`, `magnitude_prune_svd`.
    public var kind = "linear"
    /// The share of entries that pruning keeps, for types that prune.
    public var density: Double?
    /// Limits the result's entries to this quantile, for types with svd.
    public var svdClamp: Double?
    /// The rank of the result, for types with svd; `nil` for the largest of the adapters'.
    public var svdRank: Int?
    /// For types that elect a sign: by the number of adapters, not by the sum.
    public var electsByCount = false
    /// Of the random numbers, for the dare types.
    public var seed: UInt64?
    /// Is told the share that is done, from 0 to 1.
    public var progress: (@Sendable (Float) -> Void)?

    /// The weighted sum.
    public init(kind: String = "linear") { self.kind = kind }

    func run(_ work: @escaping @Sendable (UnsafePointer<graft_combine_options>) throws -> Void) async throws {
        try await Monitor.run(progress) { monitor in
            try withText(kind) { kind in
                var options = graft_combine_options()
                graft_combine_options_init(&options, MemoryLayout<graft_combine_options>.stride)
                (options.kind, options.kind_len) = (kind.data, kind.len)
                if let density { options.density = density }
                if let svdClamp { options.svd_clamp = svdClamp }
                if let svdRank { options.svd_rank = UInt32(clamping: svdRank) }
                options.majority_by_count = electsByCount ? 1 : 0
                if let seed { options.seed = seed }
                options.progress = Monitor.report
                try monitor.withPointer {
                    options.progress_user_data = $0
                    try work(&options)
                }
            }
        }
    }
}
