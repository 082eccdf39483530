import CGraft
import Foundation
import XCTest

@testable import Graft

final class TrainerTests: XCTestCase {
    private let folder = FileManager.default.temporaryDirectory.appendingPathComponent("graft-\(UUID().uuidString)").path

    override func setUpWithError() throws {
        try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true)
    }

    override func tearDownWithError() throws {
        try FileManager.default.removeItem(atPath: folder)
    }

    private let tokens: [UInt32] = [7, 44, 81, 118, 155, 2]
    private var rows: [Row] {
        [
            .text("the fox"), .completion(prompt: "my cat saw ", completion: "one bird"),
            .chat([.user("a"), .assistant("dog")]),
            .tokens(tokens, learn: [false, false, true, true, true, true]), .line(#"{"text": "that fish"}"#),
        ]
    }

    private func options() -> TrainOptions {
        var options = TrainOptions()
        options.rank = 4
        options.batch = 2
        options.steps = 6
        options.learningRate = 1e-2
        options.maxTokens = 64
        return options
    }

    private func tensors(_ trainer: Trainer, _ name: String) async throws -> Data {
        try await trainer.save(to: "\(folder)/\(name)")
        return try Data(contentsOf: URL(fileURLWithPath: "\(folder)/\(name)/adapter_model.safetensors"))
    }

    func testDefaultsAreThoseOfC() throws {
        var c = graft_train_options()
        graft_train_options_init(&c, MemoryLayout<graft_train_options>.stride)
        try TrainOptions().withC(CancelFlag()) { options in
            let o = options.pointee
            XCTAssertEqual([o.r, o.batch], [c.r, c.batch])
            XCTAssertEqual([o.seed, o.steps, o.seq], [c.seed, c.steps, c.seq])
            XCTAssertEqual([o.lr, o.weight_decay, o.clip, o.lora_plus], [c.lr, c.weight_decay, c.clip, c.lora_plus])
            XCTAssertEqual([o.precision, o.shuffle], [c.precision, c.shuffle])
            XCTAssertEqual(o.alpha, c.alpha)
            XCTAssertEqual(o.warmup, c.warmup)
            XCTAssertEqual(o.memory, c.memory)
            XCTAssertEqual([o.n_token_indices, o.modules_to_save_len], [c.n_token_indices, c.modules_to_save_len])
            XCTAssertNil(o.modules_to_save)
            XCTAssertNil(o.prompt_tuning_init_text)
            XCTAssertEqual(
                [o.num_virtual_tokens, o.oft_block_size, o.boft_block_size, o.group_size],
                [c.num_virtual_tokens, c.oft_block_size, c.boft_block_size, c.group_size])
            XCTAssertEqual(string(o.schedule, o.schedule_len), "cosine")
            XCTAssertEqual(string(o.optimizer, o.optimizer_len), "adamw")
        }
    }

    /// Oracle: a run that was never stopped.
    func testAStoppedTrainingGoesOnBitForBit() async throws {
        let model = try await Model.open(path: tinyModel)
        let whole = try await model.makeTrainer(options: options())
        try await whole.add(rows)
        let before = try await whole.evaluate()
        var steps: [Int] = []
        for try await report in whole.train() {
            XCTAssertGreaterThan(report.loss, 0)
            XCTAssertFalse(report.isSkipped)
            steps.append(report.step)
        }
        XCTAssertEqual(steps, Array(1...6))
        let after = try await whole.evaluate()
        XCTAssertLessThan(after, before)
        let info = try await whole.info
        XCTAssertEqual([info.steps, info.stepsLeft, info.rows, info.epochs], [6, 0, 5, 2])
        let end = await graftError { try await whole.run(steps: 1) }
        XCTAssertEqual(end?.status, .limit)
        let expected = try await tensors(whole, "whole")

        // Ended behind the second step.
        let trainer = try await model.makeTrainer(options: options())
        try await trainer.add(Array(rows.prefix(2)))
        try await trainer.add(Array(rows.dropFirst(2)))
        let told = Locked(0)
        let canceller = Locked<Task<TrainReport, Error>?>(nil)
        let begun = DispatchSemaphore(value: 0)
        let task = Task {
            try await trainer.run { report in
                if report.step == 1 { begun.wait() }
                told.set(report.step)
                if report.step == 2 { canceller.get()?.cancel() }
            }
        }
        canceller.set(task)
        begun.signal()
        do {
            _ = try await task.value
            XCTFail("it was not cancelled")
        } catch { XCTAssertTrue(error is CancellationError, "\(error)") }
        XCTAssertEqual(told.get(), 2)
        let stopped = try await trainer.info.steps
        XCTAssertEqual(stopped, 2)
        try await trainer.checkpoint(to: "\(folder)/checkpoint")
        try await trainer.run()
        let same = try await tensors(trainer, "same")
        XCTAssertEqual(same, expected)
        let resumed = try await model.resumeTrainer(path: "\(folder)/checkpoint", options: options())
        try await resumed.add(rows)
        try await resumed.run()
        let again = try await tensors(resumed, "again")
        XCTAssertEqual(again, expected)
        // Left by who reads it, wherever it was then.
        let left = try await model.makeTrainer(options: options())
        try await left.add(rows)
        for try await report in left.train() where report.step >= 1 { break }
        try await left.run()
        let rest = try await tensors(left, "left")
        XCTAssertEqual(rest, expected)
        let other = await graftError { [folder] in try await model.resumeTrainer(path: "\(folder)/checkpoint") }
        XCTAssertEqual(other?.status, .mismatch)
    }

    func testWhatIsLearntIsInUseAtOnce() async throws {
        let model = try await Model.open(path: tinyModel)
        var options = options()
        options.schedule = "constant"
        options.warmup = 0
        options.learningRate = 2e-2
        let trainer = try await model.makeTrainer(options: options)
        try await trainer.run(rows: [.tokens(tokens)], steps: 40)
        let left = try await trainer.info.stepsLeft
        XCTAssertNil(left)
        let session = try model.makeSession()
        let eight = GenerateOptions(maxTokens: 8)
        let plain = try await session.answer(.text("the"), options: eight).text
        let adapter = try await trainer.adapter()
        XCTAssertEqual(adapter.info.method, "LORA")
        try await session.reset()
        try await session.setAdapter(adapter)
        let adapted = try await session.answer(.text("the"), options: eight).text
        XCTAssertNotEqual(adapted, plain)
        try await trainer.save(to: "\(folder)/learnt")
        try await session.reset()
        try await session.setAdapter(try await model.openAdapter(path: "\(folder)/learnt"))
        let opened = try await session.answer(.text("the"), options: eight).text
        XCTAssertEqual(opened, adapted)
        let loss = try await trainer.evaluate([.tokens(tokens)])
        let further = try await model.openTrainer(path: "\(folder)/learnt", options: options)
        let same = try await further.evaluate([.tokens(tokens)])
        XCTAssertEqual(same, loss)
        let report = try await further.step([.tokens(tokens)])
        XCTAssertEqual([report.step, report.targets, report.tokens], [1, 5, 6])
    }

    /// Oracle: the plan's own total, and one byte below it.
    func testMemoryIsKnownBeforeItIsTakenAndHeldTo() async throws {
        let model = try await Model.open(path: tinyModel)
        var options = options()
        let plan = try await model.trainingPlan(options: options)
        let parts = plan.weights + plan.adapter + plan.gradients + plan.optimizer + plan.activations + plan.workspace
        XCTAssertEqual(plan.total, parts)
        XCTAssertTrue(plan.keepsAttention)
        options.memory = plan.total - 1
        let least = try await model.trainingPlan(options: options)
        XCTAssertFalse(least.keepsAttention)
        let trainer = try await model.makeTrainer(options: options)
        try await trainer.save(to: "\(folder)/planned")
        let opened = try await model.trainingPlan(folder: "\(folder)/planned", options: options)
        XCTAssertEqual(opened, least)
        options.memory = least.total - 1
        let planned = await graftError { [options] in try await model.trainingPlan(options: options) }
        XCTAssertEqual(planned?.status, .limit)
        let made = await graftError { [options] in try await model.makeTrainer(options: options) }
        XCTAssertEqual(made?.item, "memory")
    }

    /// By the numbers that are trained.
    func testOptionsOfMethods() async throws {
        let model = try await Model.open(path: tinyModel)
        let usual = options()
        func parameters(_ set: (inout TrainOptions) -> Void) async throws -> UInt64 {
            var options = usual
            set(&options)
            return try await model.makeTrainer(options: options).info.parameters
        }
        func setTokens(_ options: inout TrainOptions, _ tokens: [UInt32]) {
            options.method = "trainable_tokens"
            options.tokens = tokens
        }
        func setPrompt(_ options: inout TrainOptions, _ length: Int) {
            options.method = "prompt_tuning"
            options.virtualTokens = length
            options.promptText = "the fox"
        }
        let (three, one) = (try await parameters { setTokens(&$0, [5, 7, 9]) }, try await parameters { setTokens(&$0, [5]) })
        XCTAssertEqual(three, 3 * one)
        let (long, short) = (try await parameters { setPrompt(&$0, 4) }, try await parameters { setPrompt(&$0, 2) })
        XCTAssertEqual(long, 2 * short)
        let (whole, plain) = (try await parameters { $0.modulesToSave = ["embed_tokens", "norm"] }, try await parameters { _ in })
        XCTAssertGreaterThan(whole, plain)
        var wrong = usual
        wrong.groupSize = 8
        let refused = await graftError { [wrong] in try await model.makeTrainer(options: wrong) }
        XCTAssertEqual(refused?.item, "group_size")
    }

    func testWhatCannotBeLearntIsNamed() async throws {
        let model = try await Model.open(path: tinyModel)
        let trainer = try await model.makeTrainer(options: options())
        let bad: [Row] = [.text(""), .tokens([]), .tokens([1, 1 << 30]), .chat([]), .chat([.user("a")]), .line("no JSON")]
        for row in bad {
            let refused = await graftError { try await trainer.add([.text("a"), row]) }
            XCTAssertEqual(refused?.item, "rows[1]", "\(row)")
        }
        let unlike = await graftError { try await trainer.add([.tokens([1, 2], learn: [true])]) }
        XCTAssertEqual(unlike?.status, .usage)
        let none = try await trainer.info.rows
        XCTAssertEqual(none, 0)
        let nothing = await graftError { try await trainer.run() }
        XCTAssertEqual(nothing?.status, .usage)
        try await trainer.add(rows)
        try await trainer.clear()
        let cleared = try await trainer.info.rows
        XCTAssertEqual(cleared, 0)
        var wrong = options()
        wrong.method = "lorra"
        let method = await graftError { [wrong] in try await model.makeTrainer(options: wrong) }
        XCTAssertEqual(method?.item, "method")
    }
}

extension Trainer {
    fileprivate func run(rows: [Row], steps: Int) async throws {
        try await add(rows)
        try await run(steps: steps)
    }
}
