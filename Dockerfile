# mnemask on the CPU. docker build -t mnemask . && docker run --rm -v "$PWD:/work" mnemask segment clip.mp4 --mask first.png -o out
FROM python:3.12-slim
WORKDIR /src
# PyTorch first, from its index of CPU builds: the usual one would bring some GB of CUDA, and a change of mnemask keeps
# this layer.
RUN pip install --no-cache-dir torch --index-url https://download.pytorch.org/whl/cpu
COPY pyproject.toml README.md LICENSE ./
COPY src src
RUN pip install --no-cache-dir ".[rle]" && rm -rf /src && mnemask doctor
WORKDIR /work
ENTRYPOINT ["mnemask"]
CMD ["--help"]
