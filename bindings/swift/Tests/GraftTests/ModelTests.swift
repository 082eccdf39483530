import Foundation
import XCTest

@testable import Graft

final class ModelTests: XCTestCase {
    func testTheLibraryIsThere() {
        XCTAssertFalse(GraftLibrary.version.isEmpty)
    }

    func testAModelTellsItsFacts() async throws {
        let model = try await Model.open(path: tinyModel)
        XCTAssertEqual(model.info.architecture, "llama")
        XCTAssertFalse(model.info.instructionSet.isEmpty)
        XCTAssertGreaterThan(model.info.threads, 0)
        XCTAssertTrue(model.info.hasChatTemplate)
        XCTAssertGreaterThan(model.info.vocabularySize, 0)
        XCTAssertEqual(try model.metadata("general.architecture"), "\"llama\"")
        XCTAssertTrue(try model.metadataKeys.contains("tokenizer.chat_template"))
    }

    func testTheDeviceIsChosen() async throws {
        var options = ModelOptions()
        options.device = .cpu
        let model = try await Model.open(path: tinyModel, options: options)
        XCTAssertNil(model.info.device)
        XCTAssertEqual(model.info.gpuLayers, 0)
        options.device = .cuda(index: 99)
        let noGPU = await graftError { [options] in try await Model.open(path: tinyModel, options: options) }
        XCTAssertEqual(noGPU?.status == .unsupported || noGPU?.status == .usage, true)
        options.device = .cuda(index: -2)
        let noIndex = await graftError { [options] in try await Model.open(path: tinyModel, options: options) }
        XCTAssertEqual(noIndex?.item, "device_index")
    }

    func testMemoryIsKnownBeforeItIsTaken() async throws {
        var options = SessionOptions()
        options.context = 32
        let (small, large) = (try Model.memoryPlan(path: tinyModel, options: options), try Model.memoryPlan(path: tinyModel))
        let model = try await Model.open(path: tinyModel)
        XCTAssertEqual(small.weights, model.info.weightBytes)
        XCTAssertLessThan(small.cache, large.cache)
        XCTAssertGreaterThan(small.activations + small.perThread + small.vectors, 0)
        options.context = 1_000_000_000
        let tooLong = await graftError { [options] in try Model.memoryPlan(path: tinyModel, options: options) }
        XCTAssertEqual(tooLong?.item, "context")
    }

    func testPathDescriptorAndMemoryAreTheSameModel() async throws {
        let data = try Data(contentsOf: URL(fileURLWithPath: tinyModel))
        let file = try FileHandle(forReadingFrom: URL(fileURLWithPath: tinyModel))
        let fromFile = try await Model.open(fileDescriptor: file.fileDescriptor)
        try file.close()
        var answers: [String] = []
        for model in [try await Model.open(path: tinyModel), fromFile, try await Model.open(memory: data)] {
            answers.append(try await model.makeSession().answer(.text("Once upon"), options: GenerateOptions(maxTokens: 8)).text)
        }
        XCTAssertEqual(Set(answers).count, 1)
    }

    func testErrorsNameTheirPlace() async throws {
        let missing = await graftError { try await Model.open(path: "/no/such/model.gguf") }
        XCTAssertEqual(missing?.status, .io)
        XCTAssertEqual(missing?.file, "/no/such/model.gguf")
        XCTAssertTrue(missing?.message.contains("/no/such/model.gguf") ?? false)

        let noModel = await graftError { try await Model.open(memory: Data("this is no model".utf8)) }
        XCTAssertEqual(noModel?.status, .invalid)

        // A path that is no UTF-8 cannot be written in Swift: what comes of its bytes names no file. NUL ends no path either.
        let strange = await graftError { try await Model.open(path: String(decoding: [0x2f, 0xff, 0xfe] as [UInt8], as: UTF8.self)) }
        XCTAssertEqual(strange?.status, .io)
        let withNul = await graftError { try await Model.open(path: "\(tinyModel)\0.txt") }
        XCTAssertNotNil(withNul)

        let model = try await Model.open(path: tinyModel)
        let foreign = await graftError { try await model.openAdapter(path: "\(repository)/demo/adapters/stage-verse") }
        XCTAssertEqual(foreign?.status, .mismatch)
        XCTAssertNotNil(foreign?.item)
        let unknown = await graftError { try model.metadata("no.such.key") }
        XCTAssertNotNil(unknown)
    }

    func testTextBecomesTokensAndTextAgain() async throws {
        let model = try await Model.open(path: tinyModel)
        let text = "Grüße, 世界 👋\u{0}!"
        let tokens = try model.tokenize(text)
        XCTAssertGreaterThan(tokens.count, 0)
        XCTAssertEqual(try model.detokenize(tokens), text)
        XCTAssertEqual(try model.tokenize("").count, try model.tokenize("", parsingSpecial: true).count)
        let rendered = try model.render([.system("Be kind."), .user("Hello")])
        XCTAssertTrue(rendered.contains("Hello"))
        var options = ChatOptions()
        options.addingGenerationPrompt = false
        XCTAssertLessThan(try model.render([.system("Be kind."), .user("Hello")], options: options).count, rendered.count)
    }

    func testProgressIsToldAndCancellingEndsOpening() async throws {
        let model = try realModel()
        let last = Locked<Float>(0)
        var options = ModelOptions()
        options.loading = .read
        options.progress = { last.set($0) }
        _ = try await Model.open(path: model, options: options)
        XCTAssertEqual(last.get(), 1)

        let opening = Task { [options] in try await Model.open(path: model, options: options) }
        opening.cancel()
        do {
            _ = try await opening.value
            XCTFail("opened")
        } catch { XCTAssertTrue(error is CancellationError, "\(error)") }
    }

    func testTheLogIsReceived() async throws {
        let lines = Locked<[String]>([])
        GraftLibrary.setLog(.info) { _, line in lines.set(lines.get() + [line]) }
        defer { GraftLibrary.setLog(.off, nil) }
        _ = try await Model.open(path: tinyModel)
        XCTAssertTrue(lines.get().contains { $0.contains(tinyModel) }, "\(lines.get())")
    }
}
