import Foundation
import XCTest

@testable import Graft

/// The repository's test data.
let repository = URL(fileURLWithPath: #filePath).deletingLastPathComponent().appendingPathComponent("../../../..").standardized.path
let tiny = "\(repository)/tests/data/tiny/llama-tied"
let tinyModel = "\(tiny)/model.gguf"
let tinyAdapters = ["all-linear", "qv", "rslora"]

let environment = ProcessInfo.processInfo.environment

/// The small real model, where it is fetched (scripts/fetch-models smollm2).
func realModel() throws -> String {
    let folder = environment["GRAFT_MODELS"] ?? "\(NSHomeDirectory())/.cache/graft/models"
    let path = "\(folder)/SmolLM2-135M-Instruct.Q4_1.gguf"
    guard FileManager.default.fileExists(atPath: path) else { throw XCTSkip("\(path) is not there: scripts/fetch-models smollm2") }
    return path
}

/// What `graft run` with these arguments prints: greedy text, from the same library without Swift.
func graftRun(_ arguments: [String]) throws -> String {
    guard let program = environment["GRAFT_PROGRAM"] else { throw XCTSkip("GRAFT_PROGRAM does not say where the program graft is") }
    let process = Process()
    process.executableURL = URL(fileURLWithPath: program)
    process.arguments = ["run"] + arguments
    let out = Pipe()
    process.standardOutput = out
    process.standardError = FileHandle.nullDevice
    try process.run()
    let text = out.fileHandleForReading.readDataToEndOfFile()
    process.waitUntilExit()
    XCTAssertEqual(process.terminationStatus, 0)
    return String(decoding: text, as: UTF8.self)
}

/// All of a stream.
func collect(_ stream: AsyncThrowingStream<String, Error>) async throws -> String {
    var text = ""
    for try await piece in stream { text += piece }
    return text
}

/// The error that `body` throws, which must be a `GraftError`.
func graftError<Value>(_ body: () async throws -> Value, line: UInt = #line) async -> GraftError? {
    do {
        _ = try await body()
        XCTFail("no error", line: line)
    } catch {
        XCTAssert(error is GraftError, "\(error)", line: line)
        return error as? GraftError
    }
    return nil
}
