import CGraft
import Dispatch

/// A new adapter, trained on the user's own data, on the device. The model stays as it is, and may be used meanwhile.
///
///     let trainer = try await model.makeTrainer(options: options)
///     try await trainer.add([.chat([.user("What is my dog called?"), .assistant("Bruno.")])])
///     for try await report in trainer.train() { print(report.step, report.loss) }
///     try await session.setAdapter(try await trainer.adapter())
///
/// Every call is carried out in the order of calls, one at a time, on a queue of the trainer's own.
public final class Trainer: Sendable {
    /// The model.
    public let model: Model
    private let handle: Handle
    private let cancel: CancelFlag
    private let queue = DispatchQueue(label: "graft.trainer")

    fileprivate init(
        _ model: Model, _ options: TrainOptions,
        _ create: (OpaquePointer, UnsafePointer<graft_train_options>, Out<OpaquePointer>, Out<OpaquePointer>) -> graft_status
    ) throws {
        let cancel = try CancelFlag()
        self.model = model
        self.cancel = cancel
        handle = try Handle(freedBy: graft_trainer_free) { out, error in
            options.withC(cancel) { create(model.handle.pointer, $0, out, error) }
        }
    }

    /// Adds rows to those that ``train(steps:)`` learns from, all of them or, where one cannot be learnt, none. They are copied.
    ///
    /// - Throws: `GraftError` that names the row.
    public func add(_ rows: [Row]) async throws {
        try await run { trainer in
            try withRows(rows) { rows in try check { graft_trainer_add(trainer, rows.baseAddress, rows.count, $0) } }
        }
    }

    /// Takes all rows out: training goes on with those that are added then. What was learnt stays.
    ///
    /// - Throws: `GraftError` after a defect in Graft only.
    public func clear() async throws {
        try await run { trainer in try check { graft_trainer_clear(trainer, $0) } }
    }

    /// Trains on the rows that were added, and tells of every step. It begins at once, after what the trainer was asked for before, goes on where
    /// it last ended, and does not wait for who reads. Cancelling the task that reads, or leaving the loop, ends it; steps that were done stay.
    ///
    /// - Parameter steps: At least 1; `nil` for those that are left of the options'.
    /// - Returns: The stream, which throws `GraftError` where there are no rows and where the schedule has fewer steps left.
    public func train(steps: Int? = nil) -> AsyncThrowingStream<TrainReport, Error> {
        AsyncThrowingStream { continuation in
            let turn = Turn(cancel)
            continuation.onTermination = { reason in
                if case .cancelled = reason { turn.cancel() }
            }
            queue.async { [handle] in
                do {
                    try turn.begin()
                    defer { turn.end() }
                    _ = try Self.train(handle.pointer, steps) { continuation.yield($0) }
                    continuation.finish()
                } catch is CancellationError {
                    continuation.finish()
                } catch {
                    continuation.finish(throwing: error)
                }
            }
        }
    }

    /// As ``train(steps:)``, to the end; cancelling the task ends it.
    ///
    /// - Parameter onStep: Is told what each step did.
    /// - Returns: What the last step did.
    /// - Throws: as the stream; `CancellationError`.
    @discardableResult
    public func run(steps: Int? = nil, onStep: (@Sendable (TrainReport) -> Void)? = nil) async throws -> TrainReport {
        try await run { trainer in try Self.train(trainer, steps) { onStep?($0) } }
    }

    /// One step over these rows, which need not be added. Cancelling the task ends it, and nothing is then changed.
    ///
    /// - Throws: `GraftError` that names the row, and behind the last step of a schedule; `CancellationError`.
    @discardableResult
    public func step(_ rows: [Row]) async throws -> TrainReport {
        try await run { trainer in
            try withRows(rows) { rows in
                var report = graft_train_report()
                report.struct_size = MemoryLayout<graft_train_report>.stride
                try check { graft_trainer_step(trainer, rows.baseAddress, rows.count, &report, $0) }
                return TrainReport(report)
            }
        }
    }

    /// The mean loss of a learnt token of these rows, or of those that were added. Nothing is learnt.
    ///
    /// - Throws: `GraftError` that names the row, and where there is none; `CancellationError`.
    public func evaluate(_ rows: [Row] = []) async throws -> Double {
        try await run { trainer in
            try withRows(rows) { rows in
                var loss = 0.0
                try check { graft_trainer_evaluate(trainer, rows.baseAddress, rows.count, &loss, $0) }
                return loss
            }
        }
    }

    /// The adapter as it is now, for sessions of the same model; later steps do not change it.
    ///
    /// - Throws: `GraftError` for lack of memory.
    public func adapter() async throws -> Adapter {
        try await run { trainer in
            try Adapter(Handle(freedBy: graft_adapter_free) { graft_trainer_adapter(trainer, $0, $1) })
        }
    }

    /// Writes the adapter to a folder, which PEFT's `from_pretrained` and ``Model/openAdapter(path:options:)`` load.
    ///
    /// - Throws: `GraftError` where it cannot be written.
    public func save(to path: String) async throws {
        try await run { trainer in
            try withText(path) { path in try check { graft_trainer_save(trainer, path.data, path.len, $0) } }
        }
    }

    /// Writes all that ``Model/resumeTrainer(path:options:)`` needs to a file; not the rows.
    ///
    /// - Throws: `GraftError` where it cannot be written.
    public func checkpoint(to path: String) async throws {
        try await run { trainer in
            try withText(path) { path in try check { graft_trainer_checkpoint(trainer, path.data, path.len, $0) } }
        }
    }

    /// Facts about it.
    public var info: TrainerInfo {
        get async throws {
            try await run { trainer in
                var info = graft_trainer_info()
                info.struct_size = MemoryLayout<graft_trainer_info>.stride
                try check { graft_trainer_get_info(trainer, &info, $0) }
                return TrainerInfo(info)
            }
        }
    }

    /// The call itself, on the trainer's queue.
    private static func train(
        _ trainer: OpaquePointer, _ steps: Int?, _ onStep: @escaping (TrainReport) -> Void
    ) throws -> TrainReport {
        let listener = Listener(onStep)
        var report = graft_train_report()
        report.struct_size = MemoryLayout<graft_train_report>.stride
        try withExtendedLifetime(listener) {
            let user = Unmanaged.passUnretained(listener).toOpaque()
            let steps = steps.map { UInt64(max($0, 1)) } ?? 0 // 0 is all there
            try check { graft_trainer_run(trainer, steps, Listener.hear, user, &report, $0) }
        }
        return TrainReport(report)
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

/// Hears from the C interface what a step did.
private final class Listener {
    let tell: (TrainReport) -> Void

    init(_ tell: @escaping (TrainReport) -> Void) { self.tell = tell }

    static let hear: graft_train_callback = { report, user in
        Unmanaged<Listener>.fromOpaque(user!).takeUnretainedValue().tell(TrainReport(report!.pointee))
        return 0
    }
}

extension Model {
    /// Begins a new adapter of this model.
    ///
    /// - Throws: `GraftError` for options that are out of range and targets that match nothing.
    public func makeTrainer(options: TrainOptions = TrainOptions()) async throws -> Trainer {
        try await workQueue.result { try Trainer(self, options) { graft_trainer_new($0, $1, $2, $3) } }
    }

    /// Goes on with the adapter in a folder that PEFT or ``Trainer/save(to:)`` wrote. Method, targets, initialisation, rank and alpha are its own.
    ///
    /// - Throws: `GraftError` for a folder that is missing or broken, and an adapter of another model or of a method that Graft does not train.
    public func openTrainer(path: String, options: TrainOptions = TrainOptions()) async throws -> Trainer {
        try await workQueue.result {
            try withText(path) { path in
                try Trainer(self, options) { graft_trainer_open($0, path.data, path.len, $1, $2, $3) }
            }
        }
    }

    /// Goes on with what ``Trainer/checkpoint(to:)`` wrote, bit for bit, once the same rows are added in the same order. The options are those it
    /// was made with.
    ///
    /// - Throws: `GraftError` for a file that is missing, damaged, of another model or of other options.
    public func resumeTrainer(path: String, options: TrainOptions = TrainOptions()) async throws -> Trainer {
        try await workQueue.result {
            try withText(path) { path in
                try Trainer(self, options) { graft_trainer_resume($0, path.data, path.len, $1, $2, $3) }
            }
        }
    }
}

/// What is trained, and how.
public struct TrainOptions: Hashable, Sendable {
    /// Of a new adapter: `lora`, `rslora`, `dora`, `adalora`, `loha`, `lokr`, `vera`, `miss`, `ia3`, `oft`, `boft`, `hra`, `road`, `ln_tuning`,
    /// `trainable_tokens`, `prompt_tuning` or `prefix_tuning`. An option that only other methods read stays as it is.
    public var method = "lora"
    /// Which modules: `all-linear`, names separated by commas, or a regular expression of the whole path.
    public var targets = "all-linear"
    /// How updates of LoRA begin: `default`, `gaussian`, `pissa` or `olora`.
    public var initialisation = "default"
    /// Rank of the updates; 0 for the method's own, 8 of LoRA.
    public var rank = 0
    /// Their scale is alpha / rank.
    public var alpha = 16.0
    /// Share of the numbers that inputs of low-rank updates lose while they learn. Of an adapter that is opened, 0 is what it has, -1 is 0.
    public var dropout = 0.0
    /// Rows of a step.
    public var batch = 4
    /// For all that is random.
    public var seed: UInt64 = 42
    /// Steps that the schedule runs over.
    public var steps = 100
    /// Steps that lead up to the learning rate; `nil` for 3 in 100.
    public var warmup: Int?
    /// How the learning rate goes: `cosine`, `linear`, or `constant`, which has no end.
    public var schedule = "cosine"
    /// `adamw`, `adamw8bit`, `sgd` or `lion`.
    public var optimizer = "adamw"
    /// The learning rate.
    public var learningRate: Float = 2e-4
    /// Share of itself that a number loses in a step of learning rate 1.
    public var weightDecay: Float = 0
    /// The most that the norm of the gradients may be; `nil`: whatever it is.
    public var clip: Float? = 1
    /// B of low-rank updates learns so many times faster (LoRA+); `nil`: as fast as A.
    public var loraPlus: Float?
    /// The most tokens of a row: what is longer is cut.
    public var maxTokens = 512
    /// How exactly to compute.
    public var precision = SessionOptions.Precision.fast
    /// In every epoch the rows come in another order.
    public var shuffles = true
    /// The most bytes that the training may take, of those that ``Model/trainingPlan(folder:options:)`` counts; `nil`: as many as it takes. Where
    /// that is not enough, attention runs again on the way back instead of being kept.
    public var memory: UInt64?
    /// Norms and tables (`embed_tokens`, `lm_head`) that are trained whole beside the adapter.
    public var modulesToSave: [String] = []
    /// Of `prompt_tuning`: it begins with the tokens of this text, over and over; `nil` for random ones.
    public var promptText: String?
    /// Of `trainable_tokens`: which.
    public var tokens: [UInt32] = []
    /// Of `prompt_tuning` and `prefix_tuning`: positions before the text; 0 for 20.
    public var virtualTokens = 0
    /// Of `oft`: inputs of a block; 0 for 32.
    public var oftBlockSize = 0
    /// Of `boft`: inputs of a block; 0 for 4.
    public var boftBlockSize = 0
    /// Of `road`: outputs of a group; 0 for 64.
    public var groupSize = 0

    /// A LoRA of all linear maps.
    public init() {}

    func withC<Result>(_ cancel: CancelFlag, _ body: (UnsafePointer<graft_train_options>) throws -> Result) rethrows -> Result {
        let modules = modulesToSave.joined(separator: ",")
        return try withTexts([method, targets, initialisation, schedule, optimizer, modules, promptText ?? ""]) { texts in
            var options = graft_train_options()
            graft_train_options_init(&options, MemoryLayout<graft_train_options>.stride)
            (options.method, options.method_len) = (texts[0].data, texts[0].len)
            (options.targets, options.targets_len) = (texts[1].data, texts[1].len)
            (options.`init`, options.init_len) = (texts[2].data, texts[2].len)
            (options.schedule, options.schedule_len) = (texts[3].data, texts[3].len)
            (options.optimizer, options.optimizer_len) = (texts[4].data, texts[4].len)
            options.r = UInt32(clamping: rank)
            options.alpha = alpha
            options.dropout = dropout
            options.batch = UInt32(clamping: batch)
            options.seed = seed
            options.steps = UInt64(clamping: steps)
            if let warmup { options.warmup = Int64(max(warmup, 0)) }
            options.lr = learningRate
            options.weight_decay = weightDecay
            options.clip = clip ?? 0
            options.lora_plus = loraPlus ?? 0
            options.seq = UInt64(clamping: maxTokens)
            options.precision = precision == .fast ? GRAFT_PRECISION_FAST : GRAFT_PRECISION_EXACT
            options.shuffle = shuffles ? 1 : 0
            options.cancel = cancel.handle.pointer
            if let memory { options.memory = max(memory, 1) } // 0 is as many as it takes
            if !modulesToSave.isEmpty {
                (options.modules_to_save, options.modules_to_save_len) = (texts[5].data, texts[5].len)
            }
            if promptText != nil {
                (options.prompt_tuning_init_text, options.prompt_tuning_init_text_len) = (texts[6].data, texts[6].len)
            }
            options.num_virtual_tokens = UInt32(clamping: virtualTokens)
            options.oft_block_size = UInt32(clamping: oftBlockSize)
            options.boft_block_size = UInt32(clamping: boftBlockSize)
            options.group_size = UInt32(clamping: groupSize)
            return try tokens.withUnsafeBufferPointer { tokens in
                (options.token_indices, options.n_token_indices) = (tokens.baseAddress, tokens.count)
                return try body(&options)
            }
        }
    }
}

/// What a step did.
public struct TrainReport: Hashable, Sendable {
    /// Which, from 1.
    public let step: Int
    /// The mean loss of a learnt token, before the step (in nats).
    public let loss: Double
    /// Tokens that were learnt.
    public let targets: Int
    /// All tokens.
    public let tokens: Int
    /// Norm of the gradients, before it was cut.
    public let gradientNorm: Double
    /// The learning rate.
    public let learningRate: Float
    /// What it took.
    public let seconds: Double
    /// Loss or gradients were not finite, and nothing was changed.
    public let isSkipped: Bool

    init(_ report: graft_train_report) {
        step = Int(report.step)
        loss = report.loss
        targets = Int(report.targets)
        tokens = Int(report.tokens)
        gradientNorm = report.grad_norm
        learningRate = report.lr
        seconds = report.seconds
        isSkipped = report.skipped != 0
    }
}

/// Facts about a trainer.
public struct TrainerInfo: Hashable, Sendable {
    /// Steps that were done.
    public let steps: Int
    /// Steps until the schedule ends; `nil` where it has no end.
    public let stepsLeft: Int?
    /// Steps whose loss or gradients were not finite.
    public let stepsSkipped: Int
    /// Rows that were added.
    public let rows: Int
    /// How many of them were cut because they are too long.
    public let rowsCut: Int
    /// How often training was through all of them.
    public let epochs: Int
    /// Numbers that are trained.
    public let parameters: UInt64
    /// The most tokens of a row.
    public let maxTokens: Int

    init(_ info: graft_trainer_info) {
        steps = Int(info.steps)
        stepsLeft = info.steps_left < 0 ? nil : Int(info.steps_left)
        stepsSkipped = Int(info.steps_skipped)
        rows = Int(info.rows)
        rowsCut = Int(info.rows_cut)
        epochs = Int(info.epochs)
        parameters = info.parameters
        maxTokens = Int(info.seq)
    }
}
