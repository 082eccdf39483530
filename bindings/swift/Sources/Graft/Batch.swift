import CGraft
import Dispatch

/// Many prompts, one after the other: lines of JSON in, a record of JSON for each out. A file of them goes on where it was stopped.
///
/// A line is an object with exactly one of `prompt` (text as it is), `messages` (`[{"role", "content"}]`, through the chat template) and
/// `tokens`, and optionally `id`, `adapter` (a name, a list of them, or null for none), `max_tokens`, `temperature`, `top_k`, `top_p`, `min_p`,
/// `repeat_penalty`, `repeat_last_n`, `frequency_penalty`, `presence_penalty`, `seed`, `stop`, `logit_bias` and `ignore_eos`. Another field is an
/// error. Its record is `{"id", "text", "tokens", "finish_reason", "prompt_tokens"}`, or `{"id", "error"}`; a missing id is the line's number.
/// A record depends on its line and number alone, not on the lines before.
///
/// Every call is carried out in the order of calls, one at a time, on a queue of the batch's own.
public final class Batch: Sendable {
    /// The model.
    public let model: Model
    private let handle: Handle
    private let cancel: CancelFlag
    private let queue = DispatchQueue(label: "graft.batch")

    init(_ model: Model, _ options: BatchOptions) throws {
        let cancel = try CancelFlag()
        self.model = model
        self.cancel = cancel
        handle = try Handle(freedBy: graft_batch_free) { out, error in
            options.withC(cancel) { graft_batch_new(model.handle.pointer, $0, out, error) }
        }
    }

    /// From now on lines may have this adapter by its name, or, with a weight of their own, as `NAME@WEIGHT`. It takes the place of another one
    /// of that name.
    ///
    /// - Throws: `GraftError` for an adapter of another model, an empty name, and a weight that is not finite.
    public func setAdapter(_ adapter: WeightedAdapter, named name: String) async throws {
        try await queue.result { [handle] in
            try withText(name) { name in
                try check {
                    graft_batch_adapter(
                        handle.pointer, name.data, name.len, adapter.adapter.handle.pointer, adapter.weight, $0)
                }
            }
        }
    }

    /// From now on this adapter is on for lines that name none, with the others that were added so.
    ///
    /// - Throws: `GraftError` for an adapter of another model, and a weight that is not finite.
    public func addDefaultAdapter(_ adapter: WeightedAdapter) async throws {
        try await queue.result { [handle] in
            try check { graft_batch_adapter(handle.pointer, nil, 0, adapter.adapter.handle.pointer, adapter.weight, $0) }
        }
    }

    /// The record of one line, without a line break. What is wrong with the line is in the record. Cancelling the task ends it.
    ///
    /// - Parameter number: The line's id where it has none; it is added to the seed.
    /// - Throws: `CancellationError`; `GraftError` after a defect in Graft only.
    public func answer(_ line: String, number: UInt64) async throws -> String {
        try await run { batch in
            try withText(line) { line in
                try takeText { graft_batch_line(batch, line.data, line.len, number, $0, $1, $2) }
            }
        }
    }

    /// Answers the lines of a file that have no record in the file `output` yet, and appends their records, in order. Cancelling the task ends it,
    /// within a line; after a stop, of whatever kind, the same call goes on.
    ///
    /// - Parameter progress: Is told after each line the share of the input that is read, from 0 to 1.
    /// - Throws: `GraftError` for files that cannot be read or written, and an output that holds something else than records of the beginning of
    ///   this input; `CancellationError`.
    @discardableResult
    public func run(
        _ input: String, to output: String, progress: (@Sendable (Float) -> Void)? = nil
    ) async throws -> BatchReport {
        let listener = Listener(progress)
        return try await run { batch in
            try withTexts([input, output]) { paths in
                var report = graft_batch_report()
                report.struct_size = MemoryLayout<graft_batch_report>.stride
                try withExtendedLifetime(listener) {
                    let user = Unmanaged.passUnretained(listener).toOpaque()
                    try check {
                        graft_batch_run(
                            batch, paths[0].data, paths[0].len, paths[1].data, paths[1].len, Listener.hear, user, &report, $0)
                    }
                }
                return BatchReport(report)
            }
        }
    }

    /// Carries out `work` when all that was asked for before is done; cancelling the task ends it.
    private func run<Value: Sendable>(_ work: @escaping @Sendable (OpaquePointer) throws -> Value) async throws -> Value {
        let turn = Turn(cancel)
        return try await withTaskCancellationHandler {
            try await queue.result { [handle] in
                try turn.begin()
                defer { turn.end() }
                return try work(handle.pointer)
            }
        } onCancel: {
            turn.cancel()
        }
    }
}

/// Hears from the C interface how far it is.
private final class Listener: Sendable {
    private let tell: (@Sendable (Float) -> Void)?

    init(_ tell: (@Sendable (Float) -> Void)?) { self.tell = tell }

    static let hear: graft_progress_callback = { share, user in
        Unmanaged<Listener>.fromOpaque(user!).takeUnretainedValue().tell?(share)
        return 0
    }
}

extension Model {
    /// A batch of this model's answers.
    ///
    /// - Throws: `GraftError` where an option is out of range.
    public func makeBatch(options: BatchOptions = BatchOptions()) throws -> Batch {
        try Batch(self, options)
    }
}

/// What the lines of a batch are answered with that do not say it themselves.
public struct BatchOptions: Hashable, Sendable {
    /// When to end, and how to choose tokens. To the seed the line's number is added; without one it is 0.
    public var generate = GenerateOptions()
    /// How to compute. Without a `context` there is as much room as each line needs.
    public var session = SessionOptions()
    /// How to open the folders that lines name.
    public var adapter = AdapterOptions()
    /// A line may name an adapter's folder, which is then opened and kept for later lines. Not for lines that somebody else wrote: they name no
    /// files.
    public var opensFolders = false

    /// The most likely token always, until the model or its context ends.
    public init() {}

    func withC<Result>(_ cancel: CancelFlag, _ body: (UnsafePointer<graft_batch_options>) throws -> Result) rethrows -> Result {
        try generate.sampling.withC(seed: generate.sampling.seed ?? 0) { sampler in
            try generate.withC(nil, cancel) { generate in
                try session.withC { session in
                    try adapter.withC { adapter in
                        var options = graft_batch_options()
                        graft_batch_options_init(&options, MemoryLayout<graft_batch_options>.stride)
                        options.sampler = sampler
                        options.generate = generate
                        options.session = session
                        options.adapter = adapter
                        options.folders = opensFolders ? 1 : 0
                        return try body(&options)
                    }
                }
            }
        }
    }
}

/// What a run of a batch did.
public struct BatchReport: Hashable, Sendable {
    /// Lines that had a record already.
    public let before: UInt64
    /// Lines that it wrote a record for.
    public let answered: UInt64
    /// How many of these records say what is wrong with their line.
    public let failed: UInt64

    init(_ report: graft_batch_report) {
        before = report.before
        answered = report.answered
        failed = report.failed
    }
}
