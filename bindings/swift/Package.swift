// swift-tools-version: 5.9
import PackageDescription

// On a Mac Graft comes as CGraft.xcframework, which scripts/build-xcframework puts beside this file; elsewhere as a library that is
// installed (graft.pc says where). docs/swift.md has the commands.
#if os(macOS)
let graft = Target.binaryTarget(name: "CGraft", path: "CGraft.xcframework")
#else
let graft = Target.systemLibrary(name: "CGraft", pkgConfig: "graft")
#endif

// Xcode 15 does not know this language mode; nothing else depends on it.
#if compiler(>=6.0)
let languages: [SwiftVersion] = [.version("6")]
#else
let languages: [SwiftVersion] = [.v5]
#endif

let package = Package(
    name: "Graft",
    platforms: [.macOS(.v11), .iOS(.v14)],
    products: [
        .library(name: "Graft", targets: ["Graft"]),
        .executable(name: "GraftChat", targets: ["GraftChat"]),
        .executable(name: "GraftLearn", targets: ["GraftLearn"]),
    ],
    targets: [
        graft,
        .target(name: "Graft", dependencies: ["CGraft"]),
        .executableTarget(name: "GraftChat", dependencies: ["Graft"]),
        .executableTarget(name: "GraftLearn", dependencies: ["Graft"]),
        .testTarget(name: "GraftTests", dependencies: ["Graft"]),
    ],
    swiftLanguageVersions: languages
)
